"""Experiments: specs, runs, records, claims and the pages made from them."""
