"""The job model: what a caller asks for (`JobSpec`), what is made of it (`JobPlan`), and its row (`JobRecord`)."""
