"""What ``streamlit run`` is given; it runs anew at every turn, the modules that it uses do not."""

from dashboards.app import main

main()
