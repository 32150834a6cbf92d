"""Water of a finished map: its outlines, and its area."""
