"""The page that people use: HTML, CSS and ES modules, served by `api.page` as they lie here."""
