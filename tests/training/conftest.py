"""One thread for small networks, as for those of ``model``."""

from tests.model.conftest import one_thread  # noqa: F401
