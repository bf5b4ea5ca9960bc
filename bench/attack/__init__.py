"""Attacks on the package: damaged bags, kills, full disks, stamps that jump, long bags."""
