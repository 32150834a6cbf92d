"""The files of a product that the shipped weights make, in the order in which they are named."""

ENDINGS = (
    *(".tif", "_quality.tif", "_water.tif", "_error.tif", "_flood.gpkg", ".png", "_thumbnail.webp", ".html"),
    *(".qml", "_false_colour.qml", "_quality.qml", "_water.qml", "_error.qml", ".json"),
)


def files_of(name: str) -> list[str]:
    """The files of the product ``name``, its item last."""
    return [name + ending for ending in ENDINGS]


def item_first(name: str) -> list[str]:
    """The same in the order in which they are checked."""
    *files, item = files_of(name)
    return [item, *files]
