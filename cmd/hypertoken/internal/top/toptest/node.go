package toptest

import "fmt"

// NodeMetrics returns what the server exports as a node of a cluster, in addition to [Metrics]. From step
// 6 on it has no lease.
func NodeMetrics(step int) string {
	t := &text{}
	n := upTo(step)
	gauge := func(name string, value float64) { t.gauge("hypertoken_jetstream_"+name, value) }
	age, held, healthy := 0.18, 1.0, 1.0
	if step >= 6 {
		age, held, healthy = 4.25, 0, 0
	}
	gauge("lease_age_seconds", age)
	gauge("lease_held", held)
	gauge("healthy", healthy)
	gauge("members", 3)
	gauge("members_draining", 1)
	gauge("member_deaths_total", float64(step/3))
	gauge("slots", 87)
	gauge("slots_taken_over_total", 41)
	gauge("batches_total", 60*n)
	gauge("doubts_total", float64(step/2))
	gauge("refused_batches_total", 0)
	gauge("failed_batches_total", 0)
	t.each("hypertoken_serve_forwarded_lines_total", "counter", "outcome",
		map[string]float64{"answered": 120 * n, "moved": n / 2, "unreached": 0, "lost": 0})
	t.family("hypertoken_jetstream_batch_seconds", "histogram")
	for k, b := range bounds {
		fmt.Fprintf(t, "hypertoken_jetstream_batch_seconds_bucket{le=\"%v\"} %.0f\n", b, 60*n*slow[k])
	}
	fmt.Fprintf(t, "hypertoken_jetstream_batch_seconds_bucket{le=\"+Inf\"} %.0f\n", 60*n)
	t.family("hypertoken_jetstream_batch_writes", "histogram")
	fmt.Fprintf(t, "hypertoken_jetstream_batch_writes_bucket{le=\"+Inf\"} %.0f\n", 60*n)
	fmt.Fprintf(t, "hypertoken_jetstream_batch_writes_sum %.0f\nhypertoken_jetstream_batch_writes_count %.0f\n", 150*n, 60*n)
	return t.String()
}

// Cluster is the server's answer to GET /v1/cluster. One of the versions tries to control the terminal.
const Cluster = `{"self":"10.0.0.5:9465","node":"00c0ffee00c0ffee","lease":true,"lease_age":0.18,"slots":87,"members":[
{"address":"10.0.0.5:9465","node":"00c0ffee00c0ffee","slots":87,"version":"1.4.0","cores":["5c3e7d90aa0b41c2","77aa"],"abi":1},
{"address":"10.0.0.6:9465","node":"0123456789abcdef","slots":85,"version":"1.4.0","cores":["77aa","5c3e7d90aa0b41c2"]},
{"address":"games-node-seven.example:9465","node":"fedcba9876543210","slots":31,"draining":true,"version":"\u001b[2J1.3.9 0123456789abcdef"}],
"target":{"generation":3,"core":"5c3e7d90aa0b41c2","in_force":false,"former":"77aa"},
"asked_at":"2026-01-02T12:02:57Z","streams":[
{"name":"hypertoken-journals-0","leader":"n2","messages":1234567,"bytes":987654321,
"replicas":[{"server":"n1","current":true,"lag":0},{"server":"n3","current":false,"lag":1520}]},
{"name":"hypertoken-pieces-0","leader":"n1","messages":12,"bytes":4096,
"replicas":[{"server":"n2","current":true,"lag":0},{"server":"n3","current":false,"offline":true,"lag":9}]},
{"name":"hypertoken-members","error":"no server answers for the stream: it has no leader, or is not there","messages":0,"bytes":0,"replicas":[]}]}`
