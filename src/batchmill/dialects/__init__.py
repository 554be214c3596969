"""The vendors' wire formats: each vendor has a folder, the files beside these serve all."""
