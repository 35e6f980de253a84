"""Quality of a job: measures, and the report built from them."""
