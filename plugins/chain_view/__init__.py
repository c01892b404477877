"""The app behind Chainwright's pages. Imported by the api-server only (see ../chain_view_plugin.py)."""
