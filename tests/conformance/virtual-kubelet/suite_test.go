// Package suite runs virtual-kubelet's own end-to-end suite against a device node.
package suite

import (
	"flag"
	"testing"

	"github.com/virtual-kubelet/virtual-kubelet/test/e2e"
)

var (
	kubeconfig = flag.String("kubeconfig", "", "the cluster's administrator")
	namespace  = flag.String("namespace", "default", "where pods are made")
	nodeName   = flag.String("node-name", "", "the device node")
)

func TestEndToEnd(t *testing.T) {
	if *nodeName == "" {
		t.Fatal("-node-name is missing")
	}
	e2e.NewEndToEndTestSuite(e2e.EndToEndTestSuiteConfig{
		Kubeconfig: *kubeconfig,
		Namespace:  *namespace,
		NodeName:   *nodeName,
	}).Run(t)
}
