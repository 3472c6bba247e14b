"""Alignment-data extraction: what of its post-training data a model gives away when only a chat is opened.

Paper: Barbero et al. 2025, arXiv:2510.18554. A model is given the text that opens a chat and nothing else; what it
then writes is parsed into questions and answers and matched with the post-training rows that the auditor holds.
"""
