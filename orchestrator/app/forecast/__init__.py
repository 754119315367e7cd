"""What a job will take and cost, before it is sent."""
