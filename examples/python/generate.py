"""Generates the stubs of sublet.v1 and sublet.plugin.v1 from the protos.

Usage: python generate.py [--protos FOLDER] [--out FOLDER]

The protos are the project's own, or those that `sublet proto export FOLDER` wrote.
"""

import argparse
import pathlib
import sys

import grpc_tools.protoc

HERE = pathlib.Path(__file__).resolve().parent


def main() -> int:
    parser = argparse.ArgumentParser(description="Generates the stubs of sublet.v1 and sublet.plugin.v1.")
    parser.add_argument("--protos", type=pathlib.Path, default=HERE.parent.parent / "proto")
    # A hidden folder, so that what looks at the project's own files leaves it out.
    parser.add_argument("--out", type=pathlib.Path, default=HERE / ".stubs")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    protos = sorted(arguments.protos.glob("sublet/**/*.proto"))
    if not protos:
        print(f"no protos below {arguments.protos}", file=sys.stderr)
        return 1
    # google.rpc's own stubs come with googleapis-common-protos; google.protobuf's with protobuf.
    return grpc_tools.protoc.main(
        [
            "protoc",
            f"--proto_path={arguments.protos}",
            f"--proto_path={pathlib.Path(grpc_tools.__file__).parent / '_proto'}",
            f"--python_out={arguments.out}",
            f"--grpc_python_out={arguments.out}",
            *map(str, protos),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
