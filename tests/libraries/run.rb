# Uses one library like an application, so that the library sends its scripts: run.rb LIBRARY PORT.
library, port = ARGV
abort "unknown library #{library}" unless library == "sidekiq"
require "sidekiq"
require "sidekiq/api"
require "sidekiq/scheduled"

Sidekiq.configure_client { |config| config.redis = { url: "redis://127.0.0.1:#{port}/0" } }
Sidekiq::Client.push("class" => "Work", "args" => [], "at" => Time.now.to_f + 0.1)
sleep 0.2
# Like the scheduler of a Sidekiq server.
Sidekiq::Scheduled::Enq.new.enqueue_jobs
abort "the job was not moved" unless Sidekiq::Queue.new.size == 1
