output "image" {
  description = "Where the worker image has to be pushed."
  value       = local.image
}

output "address" {
  description = "Where the service answers."
  value       = google_cloud_run_v2_service.worker.uri
}

output "add_command" {
  description = "What makes the service an outpost."
  value = join(" ", [
    "outpost add cloudrun --name burst",
    "--project ${var.project} --region ${var.region} --service ${var.name}",
    "--cpu ${var.cpu} --memory ${var.memory} --max-workers ${var.max_workers}",
    "--impersonate ${google_service_account.caller.email}",
    "--token 'cmd://gcloud secrets versions access latest --secret=outpost-token --project=${var.project}'",
  ])
}
