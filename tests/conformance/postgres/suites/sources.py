"""Fetches source packages from pip's own index, each by version and hash, and unpacks their tests; builds nothing.

    sources.py SOURCES FOLDER    makes FOLDER/NAME for each line of SOURCES

`pip download` would build what it fetches to read its metadata, with tools that nobody has pinned.
"""

import pathlib
import sys
import tarfile
import tempfile

from pip._internal.commands import create_command
from pip._internal.network.download import Downloader
from pip._internal.req import parse_requirements
from pip._internal.req.constructors import install_req_from_parsed_requirement

# What is left of each package: beside its tests a driver's own code would hide the one that is installed.
KEPT = {
    "asyncpg": ("tests",),
    "pg8000": ("test",),
    "psycopg2": ("tests",),
    "sqlalchemy": ("lib", "test", "setup.cfg", "pyproject.toml"),
}


def main():
    requirements, to = sys.argv[1], pathlib.Path(sys.argv[2])
    command = create_command("download")
    with command.main_context(), tempfile.TemporaryDirectory() as aside:
        options, _ = command.parse_args(["--no-deps", "--no-binary", ":all:", "--require-hashes"])
        session = command.get_default_session(options)
        finder = command._build_package_finder(options=options, session=session)
        for line in parse_requirements(requirements, session=session, options=options):
            wanted = install_req_from_parsed_requirement(line)
            hashes = wanted.hashes(trust_internet=False)
            found = finder.find_best_candidate(wanted.name, wanted.specifier, hashes).best_candidate
            archive, _ = Downloader(session, "off")(found.link, aside)
            hashes.check_against_path(archive)
            unpack(archive, to / wanted.name, KEPT[wanted.name])


def unpack(archive, to, kept):
    with tarfile.open(archive) as tar:
        for member in tar:
            below = pathlib.PurePosixPath(member.name).parts[1:]
            if below and below[0] in kept and member.isfile() and ".." not in below:
                file = to.joinpath(*below)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(tar.extractfile(member).read())


main()
