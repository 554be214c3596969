"""HTTP: everything that does not depend on a vendor's wire format."""
