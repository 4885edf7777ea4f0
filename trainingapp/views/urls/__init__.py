"""The addresses of the pages, one module for each area. cvstudio/urls.py includes them."""
