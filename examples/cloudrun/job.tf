# The same workers as runs of a Cloud Run job, for work of many hours: what `outpost deploy` makes
# with `mode: job`, and the bucket that orders, logs and messages go through.

variable "task_hours" {
  description = "How many hours a worker of the job may take, at most 168."
  type        = number
  default     = 24
}

# An order holds what agent and git need until its worker has taken it: nothing that was deleted
# stays, no earlier version, and nobody outside of the project gets in whatever else is said.
resource "google_storage_bucket" "work" {
  name                        = "${var.project}-${var.name}"
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = true

  soft_delete_policy {
    retention_duration_seconds = 0
  }

  versioning {
    enabled = false
  }

  # What `outpost prune` was never asked to remove.
  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      age = 60
    }
  }
}

resource "google_storage_bucket_iam_member" "work" {
  for_each = merge(
    { worker = google_service_account.worker.member },
    { for who in var.controllers : who => who },
  )
  bucket = google_storage_bucket.work.name
  role   = "roles/storage.objectUser"
  member = each.value
}

resource "google_cloud_run_v2_job" "worker" {
  name                = "${var.name}-job"
  location            = var.region
  deletion_protection = false
  depends_on          = [google_storage_bucket_iam_member.work]

  template {
    task_count  = 1
    parallelism = 1

    template {
      service_account       = google_service_account.worker.email
      execution_environment = "EXECUTION_ENVIRONMENT_GEN2"
      timeout               = "${var.task_hours * 3600}s"
      max_retries           = 0

      containers {
        image = local.image
        args  = ["runner", "job"]

        resources {
          limits = {
            cpu    = var.cpu
            memory = var.memory
          }
        }

        dynamic "env" {
          for_each = {
            OUTPOST_JOB_BUCKET = google_storage_bucket.work.name
            OUTPOST_JOB_GRACE  = "9"
          }
          content {
            name  = env.key
            value = env.value
          }
        }

        dynamic "env" {
          for_each = var.secrets
          content {
            name = env.key
            value_source {
              secret_key_ref {
                secret  = split(":", env.value)[0]
                version = split(":", env.value)[1]
              }
            }
          }
        }
      }
    }
  }
}

# They run it with the name of an order, look at its runs, and cancel them.
resource "google_cloud_run_v2_job_iam_member" "controllers" {
  for_each = toset(var.controllers)
  name     = google_cloud_run_v2_job.worker.name
  location = google_cloud_run_v2_job.worker.location
  role     = "roles/run.developer"
  member   = each.value
}

output "add_job_command" {
  description = "What makes the job an outpost."
  value = join(" ", [
    "outpost add cloudrun --name long --mode job",
    "--project ${var.project} --region ${var.region} --service ${var.name}",
    "--bucket ${google_storage_bucket.work.name} --task-timeout ${var.task_hours}h",
    "--cpu ${var.cpu} --memory ${var.memory} --max-workers ${var.max_workers}",
  ])
}
