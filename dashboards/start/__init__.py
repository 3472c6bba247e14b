"""The script that Streamlit runs lies here, away from ``pages``: it would take every file there for a page."""
