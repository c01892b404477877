"""The NBD exporter: what a host's virtual machines read their layers through.

nbdkit's Python plugin runs in the system's own interpreter (3.9 or newer), without this project's packages: everything
in this folder, and what it imports, is standard library only.
"""
