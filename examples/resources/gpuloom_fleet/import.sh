# A fleet on this machine is imported by its name.
terraform import gpuloom_fleet.lab lab

# One on a cloud: aws/<region>/<name>, gcp/<project>/<region>/<name> or
# azure/<subscription>/<resource group>/<location>/<name>, with @<endpoint> behind it where the cloud's API is private.
terraform import gpuloom_fleet.ml aws/us-east-1/ml
