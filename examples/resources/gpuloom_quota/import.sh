# Objects of a fleet on this machine: <fleet name>/<object name>.
terraform import gpuloom_quota.research lab/research

# Objects of any other fleet: <endpoint>|<ca_pin>|<object name>.
terraform import gpuloom_quota.research '10.0.0.5:7443|sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae|research'
