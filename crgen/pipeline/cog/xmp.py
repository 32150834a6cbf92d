"""The mark that a file holds pixels which a network made, as picture programs and search engines read it."""

from __future__ import annotations

from importlib.metadata import version
from xml.sax.saxutils import escape, quoteattr

SOURCE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
"""IPTC's term for a composite of captured elements and some that a trained algorithm made."""


def xmp(weights: str) -> str:
    """Return an XMP packet (ISO 16684-1) with IPTC's ``DigitalSourceType``, and the weights that were used."""
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
        f' xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:CreatorTool={quoteattr("crgen " + version("crgen"))}'
        f' Iptc4xmpExt:DigitalSourceType="{SOURCE}">'
        f"<Iptc4xmpExt:AISystemUsed>crgen, weights {escape(weights)}</Iptc4xmpExt:AISystemUsed>"
        "</rdf:Description></rdf:RDF></x:xmpmeta>"
        '<?xpacket end="r"?>'
    )
