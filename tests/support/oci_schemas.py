"""Holds an OCI layout (a directory or a tar) against the JSON schemas of the OCI image specification.

Usage: oci_schemas.py LAYOUT. Every document that can be reached from `index.json` is checked; one line
for each goes to stdout. The schemas are those of Debian's golang-github-opencontainers-image-spec-dev.
"""

import json
import posixpath
import sys
import tarfile
from pathlib import Path

import jsonschema

SCHEMAS = Path("/usr/share/gocode/src/github.com/opencontainers/image-spec/schema")
# Media type of a document, its schema, and the members that are descriptors of others.
KINDS = {
    "application/vnd.oci.image.index.v1+json": ("image-index-schema.json", ["manifests"]),
    "application/vnd.oci.image.manifest.v1+json": ("image-manifest-schema.json", ["config", "layers"]),
    "application/vnd.oci.image.config.v1+json": ("config-schema.json", []),
}


def reader(path):
    """A function from a name in the layout to its bytes."""
    if path.is_dir():
        return lambda name: (path / name).read_bytes()
    archive = tarfile.open(path)
    return lambda name: archive.extractfile(name).read()


def check(document, schema_name, what):
    """Exits with the first place where the document breaks its schema."""
    # A reference names the other schema by its file, whatever the base that its `id` gives it.
    load = lambda uri: json.loads((SCHEMAS / posixpath.basename(uri)).read_text())
    schema = load(schema_name)
    resolver = jsonschema.RefResolver(schema["id"], schema, handlers={"https": load})
    validator = jsonschema.Draft4Validator(schema, resolver=resolver)
    for error in validator.iter_errors(document):
        sys.exit(f"{what}: /{'/'.join(map(str, error.absolute_path))}: {error.message}")
    print(schema_name, what)


def walk(read, descriptor):
    kind = KINDS.get(descriptor["mediaType"])
    if kind is None:
        return
    algorithm, digest = descriptor["digest"].split(":")
    document = json.loads(read(f"blobs/{algorithm}/{digest}"))
    schema, members = kind
    check(document, schema, descriptor["digest"])
    for member in members:
        below = document[member]
        for descriptor in below if isinstance(below, list) else [below]:
            walk(read, descriptor)


def main():
    read = reader(Path(sys.argv[1]))
    check(json.loads(read("oci-layout")), "image-layout-schema.json", "oci-layout")
    index = json.loads(read("index.json"))
    check(index, "image-index-schema.json", "index.json")
    for descriptor in index["manifests"]:
        walk(read, descriptor)


main()
