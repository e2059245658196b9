package check

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"
)

const kubernetesDir = "../kubernetes"

// manifests are what is in deploy/kubernetes.
type manifests struct {
	nats       *appsv1.StatefulSet
	nodes      *appsv1.Deployment
	services   map[string]*corev1.Service
	budgets    map[string]*policyv1.PodDisruptionBudget
	policies   map[string]*networkingv1.NetworkPolicy
	configMaps map[string]map[string]string // the files of each key, by name
	secrets    map[string]map[string]string
}

// generator is a ConfigMap or a Secret that kustomize makes of files.
type generator struct {
	Name  string   `json:"name"`
	Files []string `json:"files"`
}

// keys returns the file of each key.
func (g generator) keys() map[string]string {
	all := map[string]string{}
	for _, f := range g.Files {
		key, file, ok := strings.Cut(f, "=")
		if !ok {
			key, file = path.Base(f), f
		}
		all[key] = file
	}
	return all
}

// readManifests decodes all of deploy/kubernetes. A member that a type does not have is an error.
func readManifests(t *testing.T) *manifests {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(kubernetesDir, "kustomization.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var k struct {
		metav1.TypeMeta    `json:",inline"`
		Namespace          string              `json:"namespace"`
		Resources          []string            `json:"resources"`
		ConfigMapGenerator []generator         `json:"configMapGenerator"`
		SecretGenerator    []generator         `json:"secretGenerator"`
		Images             []map[string]string `json:"images"`
	}
	if err := yaml.UnmarshalStrict(b, &k); err != nil {
		t.Fatal(err)
	}
	m := &manifests{services: map[string]*corev1.Service{}, budgets: map[string]*policyv1.PodDisruptionBudget{},
		policies: map[string]*networkingv1.NetworkPolicy{}, configMaps: map[string]map[string]string{},
		secrets: map[string]map[string]string{}}
	for _, g := range k.ConfigMapGenerator {
		m.configMaps[g.Name] = g.keys()
	}
	for _, g := range k.SecretGenerator {
		m.secrets[g.Name] = g.keys()
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		appsv1.AddToScheme, corev1.AddToScheme, networkingv1.AddToScheme, policyv1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	decoder := json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme, scheme,
		json.SerializerOptions{Yaml: true, Strict: true})
	for _, file := range k.Resources {
		b, err := os.ReadFile(filepath.Join(kubernetesDir, file))
		if err != nil {
			t.Fatal(err)
		}
		for n, doc := range bytes.Split(b, []byte("\n---\n")) {
			o, _, err := decoder.Decode(doc, nil, nil)
			if err != nil {
				t.Fatalf("%s, document %d: %v", file, n+1, err)
			}
			m.add(t, o)
		}
	}
	if m.nats == nil || m.nodes == nil {
		t.Fatal("the StatefulSet or the Deployment is missing")
	}
	return m
}

func (m *manifests) add(t *testing.T, object runtime.Object) {
	t.Helper()
	switch o := object.(type) {
	case *appsv1.StatefulSet:
		m.nats = o
	case *appsv1.Deployment:
		m.nodes = o
	case *corev1.Service:
		m.services[o.Name] = o
	case *policyv1.PodDisruptionBudget:
		m.budgets[o.Name] = o
	case *networkingv1.NetworkPolicy:
		m.policies[o.Name] = o
	default:
		t.Fatalf("a %T is not looked at here", object)
	}
}

// workload is a StatefulSet or a Deployment.
type workload struct {
	name     string
	replicas int32
	selector *metav1.LabelSelector
	pod      corev1.PodTemplateSpec
}

func (m *manifests) workloads() []workload {
	return []workload{
		{m.nats.Name, *m.nats.Spec.Replicas, m.nats.Spec.Selector, m.nats.Spec.Template},
		{m.nodes.Name, *m.nodes.Spec.Replicas, m.nodes.Spec.Selector, m.nodes.Spec.Template},
	}
}

// container returns the one container of a pod.
func (w *workload) container(t *testing.T) *corev1.Container {
	t.Helper()
	if len(w.pod.Spec.Containers) != 1 {
		t.Fatalf("%s has %d containers", w.name, len(w.pod.Spec.Containers))
	}
	return &w.pod.Spec.Containers[0]
}

// port returns a port of a container by its name.
func port(t *testing.T, c *corev1.Container, name string) int32 {
	t.Helper()
	for _, p := range c.Ports {
		if p.Name == name {
			return p.ContainerPort
		}
	}
	t.Errorf("%s has no port %s", c.Name, name)
	return 0
}

// flags returns the values of arguments of the form --name=value.
func flags(args []string) map[string]string {
	all := map[string]string{}
	for _, a := range args {
		if name, value, ok := strings.Cut(strings.TrimPrefix(a, "--"), "="); ok {
			all[name] = value
		}
	}
	return all
}

// portOf returns the port of an address.
func portOf(t *testing.T, address string) int32 {
	t.Helper()
	n, err := strconv.ParseInt(address[strings.LastIndexByte(address, ':')+1:], 10, 32)
	if err != nil {
		t.Errorf("%q has no port", address)
	}
	return int32(n)
}

func selects(t *testing.T, s *metav1.LabelSelector, of map[string]string) bool {
	t.Helper()
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		t.Fatal(err)
	}
	return !selector.Empty() && selector.Matches(labels.Set(of))
}

func TestEachSelectorSelectsItsPods(t *testing.T) {
	m := readManifests(t)
	for _, w := range m.workloads() {
		spec := w.pod.Spec
		all := map[string]*metav1.LabelSelector{"the workload": w.selector,
			"the Service":       {MatchLabels: m.services[w.name].Spec.Selector},
			"the budget":        m.budgets[w.name].Spec.Selector,
			"the NetworkPolicy": &m.policies[w.name].Spec.PodSelector}
		for n, term := range spec.Affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution {
			all[fmt.Sprint("required affinity ", n)] = term.LabelSelector
		}
		for n, term := range spec.Affinity.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution {
			all[fmt.Sprint("preferred affinity ", n)] = term.PodAffinityTerm.LabelSelector
		}
		for n, c := range spec.TopologySpreadConstraints {
			all[fmt.Sprint("spread ", n)] = c.LabelSelector
		}
		for what, s := range all {
			if !selects(t, s, w.pod.Labels) {
				t.Errorf("%s: %s selects other pods: %v", w.name, what, s)
			}
			for _, other := range m.workloads() {
				if other.name != w.name && selects(t, s, other.pod.Labels) {
					t.Errorf("%s: %s selects the pods of %s", w.name, what, other.name)
				}
			}
		}
	}
	if m.nats.Spec.ServiceName != "nats" || m.services["nats"].Spec.ClusterIP != corev1.ClusterIPNone ||
		!m.services["nats"].Spec.PublishNotReadyAddresses {
		t.Error("the servers can't find each other by nats-0.nats while they start")
	}
	if len(m.nats.Spec.Template.Spec.Affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution) == 0 {
		t.Error("two NATS servers may be on one machine")
	}
}

// Ports agree: those of containers, Services, probes, policies, flags and nats.conf.
func TestPortsAgree(t *testing.T) {
	m := readManifests(t)
	conf := readConf(t, kubernetesConf)
	all := m.workloads()
	nats, node := all[0].container(t), all[1].container(t)
	args := flags(node.Args)
	servers := strings.Split(args["cluster"], ",")
	for n, server := range servers {
		u, err := url.Parse(server)
		want := fmt.Sprintf("nats-%d.%s:%d", n, m.nats.Spec.ServiceName, port(t, nats, "client"))
		if err != nil || u.Host != want {
			t.Errorf("--cluster has %s, want %s", server, want)
		}
	}
	if int32(len(servers)) != *m.nats.Spec.Replicas || int(*m.nats.Spec.Replicas) != len(conf.routes) {
		t.Errorf("%d servers, --cluster %v, routes %v", *m.nats.Spec.Replicas, servers, conf.routes)
	}
	for n, route := range conf.routes {
		if want := fmt.Sprintf("nats-%d.nats:%d", n, port(t, nats, "cluster")); route != want {
			t.Errorf("nats.conf has the route %s, want %s", route, want)
		}
	}
	for _, row := range []struct {
		what      string
		have, has int32
	}{
		{"--listen", portOf(t, args["listen"]), port(t, node, "http")},
		{"--advertise", portOf(t, args["advertise"]), port(t, node, "nodes")},
		{"listen of nats.conf", conf.port, port(t, nats, "client")},
		{"http of nats.conf", conf.http, port(t, nats, "monitor")},
		{"cluster of nats.conf", conf.clusterPort, port(t, nats, "cluster")},
	} {
		if row.have != row.has {
			t.Errorf("%s: %d, want %d", row.what, row.have, row.has)
		}
	}
	for _, w := range all {
		c := w.container(t)
		for _, p := range m.services[w.name].Spec.Ports {
			if p.TargetPort.Type != intstr.String {
				t.Errorf("the Service %s names no port", w.name)
			}
			if got := port(t, c, p.TargetPort.StrVal); w.name == "nats" && got != p.Port {
				t.Errorf("the Service nats has %d for %d: it is headless", p.Port, got)
			}
		}
		for _, p := range []*corev1.Probe{c.StartupProbe, c.ReadinessProbe, c.LivenessProbe} {
			if p == nil || p.HTTPGet == nil {
				t.Errorf("%s: a probe is missing", w.name)
				continue
			}
			port(t, c, p.HTTPGet.Port.StrVal)
		}
	}
	if got := node.ReadinessProbe.HTTPGet.Path; got != "/readyz" {
		t.Errorf("a node is ready by %s", got)
	}
	if got := node.LivenessProbe.HTTPGet.Path; got != "/healthz" {
		t.Errorf("a node lives by %s", got)
	}
}

// allowed returns the ports that a policy lets pods connect to, or from which it lets them in.
func allowed(t *testing.T, ports []networkingv1.NetworkPolicyPort, peers []networkingv1.NetworkPolicyPeer,
	other map[string]string) (all []int32) {
	for _, p := range peers {
		if p.PodSelector != nil && p.NamespaceSelector == nil && selects(t, p.PodSelector, other) {
			peers = nil
			break
		}
	}
	if len(peers) == 0 {
		for _, p := range ports {
			all = append(all, p.Port.IntVal)
		}
	}
	return all
}

// Each connection that the parts need is let through at both ends, and others are not.
func TestPoliciesAllowWhatIsNeeded(t *testing.T) {
	m := readManifests(t)
	all := m.workloads()
	nats, nodes := &all[0], &all[1]
	client, cluster := port(t, nats.container(t), "client"), port(t, nats.container(t), "cluster")
	http, between := port(t, nodes.container(t), "http"), port(t, nodes.container(t), "nodes")
	for _, row := range []struct {
		from, to *workload
		want     []int32
	}{
		{nodes, nats, []int32{client}}, {nats, nats, []int32{cluster}},
		{nodes, nodes, []int32{between}}, {nats, nodes, nil},
	} {
		var out, in []int32
		for _, r := range m.policies[row.from.name].Spec.Egress {
			out = append(out, allowed(t, r.Ports, r.To, row.to.pod.Labels)...)
		}
		for _, r := range m.policies[row.to.name].Spec.Ingress {
			in = append(in, allowed(t, r.Ports, r.From, row.from.pod.Labels)...)
		}
		out = slices.DeleteFunc(out, func(p int32) bool { return p == 53 })
		in = slices.DeleteFunc(in, func(p int32) bool { return p == http }) // for everybody
		if !slices.Equal(out, row.want) || !slices.Equal(in, row.want) {
			t.Errorf("from %s to %s: %v are let out and %v in, want %v", row.from.name, row.to.name, out, in, row.want)
		}
	}
	for name, p := range m.policies {
		if !slices.Equal(p.Spec.PolicyTypes, []networkingv1.PolicyType{"Ingress", "Egress"}) {
			t.Errorf("%s: %v", name, p.Spec.PolicyTypes)
		}
	}
}

// mounted returns the sources of the files that a container sees, by their paths.
func (m *manifests) mounted(t *testing.T, w *workload) map[string]string {
	t.Helper()
	all := map[string]string{}
	volumes := map[string]corev1.Volume{}
	for _, v := range w.pod.Spec.Volumes {
		volumes[v.Name] = v
	}
	for _, mount := range w.container(t).VolumeMounts {
		v, ok := volumes[mount.Name]
		var keys map[string]string
		switch {
		case !ok && w.name == m.nats.Name && mount.Name == m.nats.Spec.VolumeClaimTemplates[0].Name:
		case !ok:
			t.Errorf("%s: there is no volume %s", w.name, mount.Name)
		case v.Secret != nil:
			if keys = m.secrets[v.Secret.SecretName]; keys == nil {
				t.Errorf("%s: there is no Secret %s", w.name, v.Secret.SecretName)
			}
		case v.ConfigMap != nil:
			if keys = m.configMaps[v.ConfigMap.Name]; keys == nil {
				t.Errorf("%s: there is no ConfigMap %s", w.name, v.ConfigMap.Name)
			}
		}
		for key, file := range keys {
			switch mount.SubPath {
			case "":
				all[path.Join(mount.MountPath, key)] = file
			case key:
				all[mount.MountPath] = file
			}
		}
		delete(volumes, mount.Name)
	}
	if len(volumes) > 0 {
		t.Errorf("%s: nothing mounts %v", w.name, slices.Collect(maps.Keys(volumes)))
	}
	return all
}

// Each file that flags and nats.conf name is there: a key of a Secret or of a ConfigMap.
func TestFilesAreMounted(t *testing.T) {
	m := readManifests(t)
	all := m.workloads()
	have := m.mounted(t, &all[1])
	for flag, file := range flags(all[1].container(t).Args) {
		if strings.HasPrefix(file, "/") && have[file] == "" {
			t.Errorf("--%s=%s: no Secret has it", flag, file)
		}
	}
	have = m.mounted(t, &all[0])
	for _, file := range readConf(t, kubernetesConf).files {
		if have[file] == "" {
			t.Errorf("nats.conf: no Secret has %s", file)
		}
	}
	const file = "/etc/nats/nats.conf"
	if args := all[0].container(t).Args; !slices.Contains(args, file) || have[file] != "nats.conf" {
		t.Errorf("nats.conf is not where %v looks", args)
	}
	made := makeSecrets(t)
	for name, keys := range m.secrets {
		for key, file := range keys {
			if _, err := os.Stat(filepath.Join(made, filepath.Base(file))); err != nil || path.Dir(file) != "secrets" {
				t.Errorf("the Secret %s has %s from %s, which deploy/secrets does not make", name, key, file)
			}
		}
	}
}

// A pod has time for what it does when it is stopped.
func TestPodsHaveTimeToStop(t *testing.T) {
	m := readManifests(t)
	all := m.workloads()
	spec := all[1].pod.Spec
	drain, err := time.ParseDuration(flags(spec.Containers[0].Args)["drain-timeout"])
	if err != nil {
		t.Fatal(err)
	}
	// The node lets lines end, then actions, then gives its slots back.
	needs := 3*drain + time.Duration(spec.Containers[0].Lifecycle.PreStop.Sleep.Seconds)*time.Second
	if got := time.Duration(*spec.TerminationGracePeriodSeconds) * time.Second; got <= needs {
		t.Errorf("a node has %v to stop, and needs %v", got, needs)
	}
	spec = all[0].pod.Spec
	needs = readConf(t, kubernetesConf).lameDuck
	if got := time.Duration(*spec.TerminationGracePeriodSeconds) * time.Second; got <= needs {
		t.Errorf("a NATS server has %v to stop, and needs %v", got, needs)
	}
	stop := spec.Containers[0].Lifecycle.PreStop.Exec.Command
	pid := spec.Containers[0].Args[slices.Index(spec.Containers[0].Args, "--pid")+1]
	if want := []string{"nats-server", "--signal", "ldm=" + pid}; !slices.Equal(stop, want) {
		t.Errorf("preStop is %v, want %v", stop, want)
	}
}

// While pods are evicted, a majority of the servers and a node are left.
func TestBudgetsLeaveEnough(t *testing.T) {
	m := readManifests(t)
	for _, w := range m.workloads() {
		least := cmp.Or(map[string]int32{"nats": w.replicas/2 + 1}[w.name], 1)
		budget := m.budgets[w.name].Spec
		if left := w.replicas - budget.MaxUnavailable.IntVal; budget.MaxUnavailable.IntVal < 1 || left < least {
			t.Errorf("%s: the budget leaves %d of %d, want %d or more", w.name, left, w.replicas, least)
		}
	}
	if w := m.nodes.Spec.Strategy.RollingUpdate; w.MaxUnavailable.IntVal != 0 || w.MaxSurge.IntVal != 1 {
		t.Errorf("an update takes nodes away before new ones are ready: %v", w)
	}
}

func TestPodsGetByWithWhatTheyHave(t *testing.T) {
	m := readManifests(t)
	conf := readConf(t, kubernetesConf)
	volume := m.nats.Spec.VolumeClaimTemplates[0].Spec.Resources.Requests[corev1.ResourceStorage]
	if room := volume.Value(); conf.maxStore <= 0 || conf.maxStore > room/10*9 {
		t.Errorf("max_file_store is %d of a volume of %d bytes, want nine tenths at most", conf.maxStore, room)
	}
	if conf.storeDir != m.nats.Spec.Template.Spec.Containers[0].VolumeMounts[0].MountPath {
		t.Errorf("store_dir %s is not on the volume", conf.storeDir)
	}
	for _, w := range m.workloads() {
		c := w.container(t)
		limit := c.Resources.Limits[corev1.ResourceMemory]
		for _, e := range c.Env {
			if e.Name != "GOMEMLIMIT" {
				continue
			}
			soft, err := resource.ParseQuantity(strings.TrimSuffix(e.Value, "B"))
			if err != nil || soft.Value() >= limit.Value() {
				t.Errorf("%s: GOMEMLIMIT is %s with a limit of %v", w.name, e.Value, &limit)
			}
		}
		// Pods are what Kubernetes calls restricted, and nothing writes to their file systems.
		pod, own := w.pod.Spec.SecurityContext, c.SecurityContext
		if !*pod.RunAsNonRoot || pod.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault ||
			*own.AllowPrivilegeEscalation || !*own.ReadOnlyRootFilesystem || *w.pod.Spec.AutomountServiceAccountToken ||
			!slices.Equal(own.Capabilities.Drop, []corev1.Capability{"ALL"}) {
			t.Errorf("%s has rights that it does not need", w.name)
		}
	}
}
