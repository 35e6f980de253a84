"""From plans to encoded pictures: the loop that jobs and live sessions share. It knows no Ray."""
