"""CRGenNet's generator as published."""
