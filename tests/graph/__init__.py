"""Tests that share two running services; a package, so that pytest ends these before the tests of other folders."""
