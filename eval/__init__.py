"""Measuring: metrics, suites, reports. May import the products; only `training` imports it, serving never does."""
