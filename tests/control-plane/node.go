package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// keptNode is one Node object without a machine behind it, kept Ready for as long as the process lives.
//
// The node controller adds NoExecute taints and evicts only while at least one Node is Ready, so without this node the worst reactions of
// a cluster to a silent node would never be seen. Its taint keeps every pod away that does not ask for it by name.
type keptNode struct {
	client   kubernetes.Interface
	name     string
	interval time.Duration
}

const (
	keptNodeLabel  = "lab"
	keptNodeValue  = "always-ready"
	requestTimeout = 5 * time.Second
)

// runKeptNode parses `always-ready-node --kubeconfig FILE [--name NAME] [--interval DURATION]` and keeps the node until SIGTERM.
func runKeptNode() {
	flags := flag.NewFlagSet("always-ready-node", flag.ExitOnError)
	kubeconfig := flags.String("kubeconfig", "", "kubeconfig of an administrator")
	name := flags.String("name", "always-ready", "name of the Node object")
	interval := flags.Duration("interval", 2*time.Second, "time between two renewals of the lease")
	if err := flags.Parse(os.Args[1:]); err != nil {
		exitWith(err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		exitWith(err)
	}
	config.Timeout = requestTimeout
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		exitWith(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	keptNode{client: client, name: *name, interval: *interval}.keep(ctx)
}

func exitWith(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// keep repeats until the context ends. A failure is printed and tried again at the next tick: the API server is restarted by tests.
func (k keptNode) keep(ctx context.Context) {
	ticker := time.NewTicker(k.interval)
	defer ticker.Stop()
	for {
		if err := k.renew(ctx); err != nil && !errors.Is(err, context.Canceled) {
			fmt.Fprintln(os.Stderr, err)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// renew makes the node, its Ready condition and its lease what they should be, and changes nothing else.
func (k keptNode) renew(ctx context.Context) error {
	nodes := k.client.CoreV1().Nodes()
	node, err := nodes.Get(ctx, k.name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		node, err = nodes.Create(ctx, k.wanted(), metav1.CreateOptions{})
	}
	if err != nil {
		return fmt.Errorf("node %s: %w", k.name, err)
	}
	if !isReady(node) {
		node.Status.Conditions = []corev1.NodeCondition{readyCondition()}
		if node, err = nodes.UpdateStatus(ctx, node, metav1.UpdateOptions{}); err != nil {
			return fmt.Errorf("status of node %s: %w", k.name, err)
		}
	}
	return k.renewLease(ctx, node)
}

func (k keptNode) wanted() *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name:   k.name,
			Labels: map[string]string{keptNodeLabel: keptNodeValue, corev1.LabelHostname: k.name},
		},
		Spec: corev1.NodeSpec{
			Taints: []corev1.Taint{{Key: keptNodeLabel, Value: keptNodeValue, Effect: corev1.TaintEffectNoSchedule}},
		},
		Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{readyCondition()}},
	}
}

func readyCondition() corev1.NodeCondition {
	now := metav1.Now()
	return corev1.NodeCondition{
		Type:               corev1.NodeReady,
		Status:             corev1.ConditionTrue,
		Reason:             "KeptReady",
		Message:            "kept Ready by the lab",
		LastHeartbeatTime:  now,
		LastTransitionTime: now,
	}
}

func isReady(node *corev1.Node) bool {
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}

func (k keptNode) renewLease(ctx context.Context, node *corev1.Node) error {
	leases := k.client.CoordinationV1().Leases(corev1.NamespaceNodeLease)
	now := metav1.NowMicro()
	lease, err := leases.Get(ctx, k.name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		holder, seconds := k.name, int32(40)
		lease = &coordinationv1.Lease{
			ObjectMeta: metav1.ObjectMeta{
				Name: k.name,
				OwnerReferences: []metav1.OwnerReference{
					{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID},
				},
			},
			Spec: coordinationv1.LeaseSpec{HolderIdentity: &holder, LeaseDurationSeconds: &seconds, RenewTime: &now},
		}
		_, err = leases.Create(ctx, lease, metav1.CreateOptions{})
	case err == nil:
		lease.Spec.RenewTime = &now
		_, err = leases.Update(ctx, lease, metav1.UpdateOptions{})
	}
	if err != nil {
		return fmt.Errorf("lease of node %s: %w", k.name, err)
	}
	return nil
}
