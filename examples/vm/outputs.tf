locals {
  address = var.external_address ? google_compute_instance.worker.network_interface[0].access_config[0].nat_ip : var.name

  at = "--project=${var.project} --zone=${var.zone}"

  # The share of one worker, with as many digits as a price may have.
  price = var.vm_price_hourly == 0 ? "" : format(
    " --price-hourly %.6f", var.vm_price_hourly / var.max_workers
  )
}

output "address" {
  description = "What to give as --host: an address, or with Identity-Aware Proxy the name in ssh_config."
  value       = local.address
}

output "fingerprint_command" {
  description = "Shows the host key's fingerprint as the VM wrote it on its serial console, a minute or two after its first start."
  value       = "gcloud compute instances get-serial-port-output ${var.name} ${local.at} | grep '(ED25519)'"
}

output "add_command" {
  description = "Makes the VM an outpost. Say yes only if it shows the fingerprint that fingerprint_command shows."
  value       = "outpost add ssh --name ${var.name} --host ${local.address} --user outpost --ssh-key ${var.ssh_key} --max-workers ${var.max_workers}${local.price}"
}

output "ssh_config" {
  description = "With Identity-Aware Proxy: put this into ~/.ssh/config first. Otherwise empty."
  value       = var.external_address ? "" : <<-EOT
    Host ${var.name}
      ProxyCommand gcloud compute start-iap-tunnel ${var.name} 22 --listen-on-stdin ${local.at}
  EOT
}
