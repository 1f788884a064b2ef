variable "project" {
  description = "The Google Cloud project that pays."
  type        = string
}

variable "region" {
  description = "Where the service and the image are."
  type        = string
  default     = "us-central1"
}

variable "name" {
  description = "What the service and the repository of images are called."
  type        = string
  default     = "outpost-worker"
}

variable "image_tag" {
  description = "The tag of the worker image; another one makes a new revision."
  type        = string
  default     = "1"
}

variable "controllers" {
  description = "Who may run workers, such as [\"user:sam@example.com\"]."
  type        = list(string)
  default     = []
}

variable "secrets" {
  description = "Secrets that are there already and workers get, by variable: { GH_TOKEN = \"gh:latest\" }."
  type        = map(string)
  default     = {}
}

variable "cpu" {
  description = "Virtual CPUs of an instance."
  type        = string
  default     = "2"
}

variable "memory" {
  description = "Memory of an instance."
  type        = string
  default     = "4Gi"
}

variable "max_workers" {
  description = "How many workers run at once, each in an instance of its own."
  type        = number
  default     = 20
}
