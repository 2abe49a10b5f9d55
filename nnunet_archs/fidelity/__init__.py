"""What the papers state and print, beside what is built here."""
