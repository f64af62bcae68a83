# A fleet on this machine is imported by its name.
terraform import gpuloom_fleet.lab lab
