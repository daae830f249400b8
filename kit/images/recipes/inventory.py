"""Prints name, version and licence of every Python package of this environment, while its metadata is complete."""

from importlib.metadata import distributions

for package in sorted(distributions(), key=lambda d: d.name.lower()):
    classifiers = [c.split(" :: ")[-1] for c in package.metadata.get_all("Classifier", []) if c.startswith("License ::")]
    text = (package.metadata.get("License") or "").strip().split("\n")[0]
    licence = package.metadata.get("License-Expression") or ", ".join(classifiers) or text
    print(package.name, package.version, licence, sep="\t")
