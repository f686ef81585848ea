"""What people look at: tables, pages, overlays."""
