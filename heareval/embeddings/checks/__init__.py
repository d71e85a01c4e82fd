"""What `heareval validate` runs inside the submission's environment: `python checks JOB.json`."""
