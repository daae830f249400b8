"""What is in an image, as CycloneDX 1.6: every Debian and Python package and every program built from source.

Made from the lists that the image carries of itself (`inventory` in kit/images/render.py), so that any machine can make it
again.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from kit import __version__
from kit.images.built import Built

# Of Python packages that declare none in their metadata: what their own files say.
UNDECLARED = {"hdf5plugin": "MIT; each filter has a licence of its own (doc/information.rst of its source)"}
# Where the source of what is bundled can be had: Debian keeps it for every version it ships.
DEBIAN_SOURCE = "apt-get source {name}={version}"


def sbom(built: Built) -> str:
    """CycloneDX JSON of a built image; `metadata` holds its digest, recipe, build date and commit."""
    from cyclonedx.contrib.license.factories import LicenseFactory
    from cyclonedx.model import HashAlgorithm, HashType, Property
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.output.json import JsonV1Dot6
    from packageurl import PackageURL

    lists = built.inventory()
    licenses = LicenseFactory()
    named: dict[str, list[str]] = defaultdict(list)
    for package, license in (row for row in lists.get("licenses", []) if len(row) == 2):
        named[package].append(license)

    def component(name: str, version: str, found: list[str], purl: PackageURL, **more: Any) -> Component:
        return Component(
            name=name,
            version=version,
            type=ComponentType.LIBRARY,
            purl=purl,
            bom_ref=purl.to_string(),
            licenses=[licenses.make_with_name(text[:200]) for text in sorted(set(found))],
            **more,
        )

    bom = Bom()
    for name, version, architecture, source, source_version in lists["debian"]:
        purl = PackageURL("deb", "debian", name, version, {"arch": architecture})
        origin = Property(name="kit:source", value=DEBIAN_SOURCE.format(name=source, version=source_version))
        # The copyright file of each is in the image; what it names in machine-readable form is repeated here.
        text = named.get(name) or [f"see /usr/share/doc/{name}/copyright"]
        bom.components.add(component(name, version, text, purl, properties=[origin]))
    for name, version, license in lists.get("python", []):
        purl = PackageURL("pypi", None, name.lower(), version)
        found = license or UNDECLARED.get(name, "")
        bom.components.add(component(name, version, [found] if found else [], purl))
    for name, version, digest, license in lists.get("sources", []):
        purl = PackageURL("deb", "debian", name, version, {"arch": "source"})
        origin = Property(name="kit:source", value=f"upstream archive of the Debian source package {name}")
        hashes = [HashType(alg=HashAlgorithm.SHA_256, content=digest)]
        bom.components.add(component(name, version, [license], purl, hashes=hashes, properties=[origin]))
    bom.metadata.component = Component(
        name=built.image.name,
        version=built.image.source.VERSION,
        type=ComponentType.CONTAINER,
        bom_ref=built.image.name,
        licenses=[licenses.make_from_string(built.image.source.LICENSES)],
        properties=[
            Property(name="kit:digest", value=built.digest),
            Property(name="kit:version", value=__version__),
            *(Property(name=f"kit:label:{key}", value=value) for key, value in built.labels.items()),
        ],
    )
    bom.register_dependency(bom.metadata.component, bom.components)
    return JsonV1Dot6(bom).output_as_string(indent=1)
