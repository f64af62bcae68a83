output "connection" {
  description = "What other gpuloom resources take as `fleet`."
  value       = gpuloom_fleet.this.connection
}

output "endpoint" {
  description = "Where the lead answers."
  value       = gpuloom_fleet.this.connection.endpoints[0]
}

output "ca_pin" {
  description = "What clients trust."
  value       = gpuloom_fleet.this.connection.ca_pin
}

output "pools" {
  description = "Each pool's present size and status."
  value = { for name, pool in gpuloom_pool.this : name => {
    size   = pool.size
    ready  = pool.ready_size
    status = pool.status
  } }
}
