"""Files that hold generated pixels say so where picture programs and search engines look."""

from xml.etree import ElementTree as ET

import pytest
import rasterio
from PIL import Image

from crgen.pipeline.cog.profile import xmp_of
from crgen.pipeline.picture.page import Sheet
from tests.pipeline.cog.rasters import dn_image, profile_of, write_cog

SOURCE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
IPTC = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}"


def description(packet: str) -> ET.Element:
    return ET.fromstring(packet[packet.index("<x:xmpmeta") : packet.index("<?xpacket end")])[0][0]


@pytest.mark.parametrize("weights", ["base", "<b> & \"Ü\" 'x'"])
def test_the_packet_names_the_source_and_the_weights_whatever_they_are_called(weights) -> None:
    found = description(xmp_of(weights))
    assert found.get(f"{IPTC}DigitalSourceType") == SOURCE
    assert found.findtext(f"{IPTC}AISystemUsed") == f"crgen, weights {weights}"


def test_a_geotiff_carries_it_once_and_its_bands_say_it(tmp_path) -> None:
    profile = profile_of((1100, 700), ("B4", "B3", "B2"), xmp=xmp_of("base"), band_tags={"CRGEN_ORIGIN": "generated"})
    path = write_cog(tmp_path / "a.tif", profile, dn_image((1100, 700)))
    with rasterio.open(path) as cog:
        packet = cog.tags(ns="xml:XMP")["xml:XMP"]
        assert [cog.tags(band)["CRGEN_ORIGIN"] for band in cog.indexes] == ["generated"] * 3
        assert cog.overviews(1)
    assert description(packet).get(f"{IPTC}DigitalSourceType") == SOURCE
    assert path.read_bytes().count(b"<x:xmpmeta") == 1


def test_a_png_carries_it(tmp_path) -> None:
    sheet = Sheet(2)
    (tmp_path / "a.png").write_bytes(sheet.png(xmp_of("base")))
    with Image.open(tmp_path / "a.png") as image:
        assert image.info["Software"] == "crgen"
        assert description(image.info["XML:com.adobe.xmp"]).get(f"{IPTC}DigitalSourceType") == SOURCE
