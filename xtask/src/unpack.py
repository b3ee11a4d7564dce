"""Takes members out of a zip or tar archive: unpack.py ARCHIVE FOLDER (INSIDE KEPT)...

A member whose name ends with "/" stands for all files below it. A member that is not there is an error.
"""
import os
import shutil
import sys
import tarfile
import zipfile


class Zip:
    def __init__(self, path):
        self.archive = zipfile.ZipFile(path)
        self.names = [name for name in self.archive.namelist() if not name.endswith("/")]

    def open(self, name):
        return self.archive.open(name)


class Tar:
    def __init__(self, path):
        self.archive = tarfile.open(path)
        self.names = [member.name for member in self.archive.getmembers() if member.isfile()]

    def open(self, name):
        return self.archive.extractfile(name)


def wanted(names, inside, kept):
    if not inside.endswith("/"):
        return [(inside, kept)] if inside in names else []
    return [(name, kept + name[len(inside):]) for name in names if name.startswith(inside)]


def main(archive, folder, *pairs):
    archive = Zip(archive) if zipfile.is_zipfile(archive) else Tar(archive)
    names = set(archive.names)
    for inside, kept in zip(pairs[::2], pairs[1::2]):
        found = wanted(names, inside, kept)
        if not found:
            sys.exit(f"no {inside} in the archive")
        for name, place in found:
            place = os.path.normpath(os.path.join(folder, place))
            if not place.startswith(os.path.normpath(folder) + os.sep):
                sys.exit(f"{name} would land outside the folder")
            os.makedirs(os.path.dirname(place), exist_ok=True)
            with archive.open(name) as source, open(place, "wb") as target:
                shutil.copyfileobj(source, target)


main(*sys.argv[1:])
