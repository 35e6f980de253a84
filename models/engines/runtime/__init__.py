"""Code for all networks that the user adds: reads their files, speeds them up and feeds them."""
