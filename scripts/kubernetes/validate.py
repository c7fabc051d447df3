#!/usr/bin/env python3
"""Validates every manifest beside this script against the schema of the Kubernetes API.

    validate.py [FILE...]

Uses PyPI's kubernetes-validate (strict: an unknown field is an error), and checks what no schema
can: that the number of shards is the same wherever it stands. Prints one line a resource; exit
code 1 if one does not fit.
"""
import pathlib
import sys

import kubernetes_validate
import yaml

VERSION = "1.31"  # any API version since batch/v1 has what these manifests use


def same_count(resource):
    """Why an indexed Job does not agree with itself, or None."""
    spec = resource["spec"]
    env = {e["name"]: e.get("value") for e in spec["template"]["spec"]["containers"][0]["env"]}
    counts = {str(spec["completions"]), str(spec["parallelism"]), env.get("DUEL_SHARDS")}
    return None if len(counts) == 1 else f"completions, parallelism and DUEL_SHARDS: {counts}"


def main():
    here = pathlib.Path(__file__).parent
    files = [pathlib.Path(f) for f in sys.argv[1:]] or sorted(here.glob("*.yaml"))
    failed = False
    for file in files:
        for resource in yaml.safe_load_all(file.read_text()):
            name = f"{file.name}: {resource['kind']} {resource['metadata']['name']}"
            try:
                kubernetes_validate.validate(resource, VERSION, strict=True)
                indexed = resource["kind"] == "Job" and resource["spec"].get("completionMode")
                why = same_count(resource) if indexed else None
            except kubernetes_validate.ValidationError as error:
                why = error.message
            failed |= why is not None
            print(f"{name}: {why or 'ok'}")
    sys.exit(failed)


if __name__ == "__main__":
    main()
