"""Which directories must not hold a SQLite file: those that another machine may write, too.

SQLite's locks and its shared-memory log do not work across a network.
"""

from __future__ import annotations

from pathlib import Path

NETWORK_TYPES = frozenset(
    {
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "davfs",
        "fuse.ceph",
        "fuse.gcsfuse",
        "fuse.glusterfs",
        "fuse.juicefs",
        "fuse.rclone",
        "fuse.s3fs",
        "fuse.sshfs",
        "gfs2",
        "glusterfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "ocfs2",
        "smb3",
        "smbfs",
    }
)


def network_type(path: Path, mounts: str) -> str | None:
    """The file system type of a path if it is a network's, by the text of `/proc/mounts`.

    The longest mount point above the path decides, and of equal ones the last.
    """
    best, kind = -1, ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = Path(_unescape(fields[1]))
        if path.is_relative_to(point) and len(point.parts) >= best:
            best, kind = len(point.parts), fields[2]
    return kind if kind in NETWORK_TYPES else None


def _unescape(text: str) -> str:
    """`/proc/mounts` writes space, tab, line break and backslash as three octal digits."""
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, char)
    return text
