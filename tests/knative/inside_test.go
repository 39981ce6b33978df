package knative

// The inside of a pod with queue-proxy: a network of its own, Knative's queue-proxy as this process, the server as its
// child. queue-proxy listens on every address, so two of them cannot share a network.

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
	"knative.dev/serving/pkg/queue/sharedmain"
)

// Set for the process inside: the server's binary. Its listening sockets, made outside, follow standard error.
const insideVariable = "CORYMB_INSIDE_POD"

// Besides: the model that it serves, in the place of the embedded one.
const modelVariable = "CORYMB_INSIDE_MODEL"

// insidePorts are forwarded to from the pod's address outside, in this order. The server's own port is not among them:
// nothing but queue-proxy reaches it.
var insidePorts = []int{8012, 8013, 8022, 9090, statsPort}

// statsPort is where the server answers as queue-proxy does at 9090.
const statsPort = 9190

func inside() {
	if err := runInside(); err != nil {
		fmt.Fprintln(os.Stderr, "inside the pod:", err)
		os.Exit(1)
	}
}

func runInside() error {
	if err := loopbackUp(); err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	arguments := []string{"serve", "--knative-stats", fmt.Sprintf("127.0.0.1:%d", statsPort)}
	if model := os.Getenv(modelVariable); model != "" {
		arguments = append(arguments, "--model-dir", model)
	}
	server := exec.Command(os.Getenv(insideVariable), arguments...)
	// As Knative's container: the port by $PORT.
	server.Env = []string{"PORT=8080", "POD_NAME=" + os.Getenv("SERVING_POD"), "XDG_CACHE_HOME=" + os.Getenv("XDG_CACHE_HOME")}
	server.Stdout, server.Stderr = os.Stderr, os.Stderr
	if err := spawn(server); err != nil {
		return err
	}
	// The kubelet's SIGTERM for the server, which this process hands on; its own is queue-proxy's.
	hand := make(chan os.Signal, 1)
	signal.Notify(hand, syscall.SIGUSR1)
	go func() {
		for range hand {
			_ = server.Process.Signal(syscall.SIGTERM)
		}
	}()
	for i, port := range insidePorts {
		listener, err := net.FileListener(os.NewFile(uintptr(3+i), "listener"))
		if err != nil {
			return err
		}
		go forward(listener, fmt.Sprintf("127.0.0.1:%d", port))
	}
	if err := sharedmain.Main(); err != nil {
		return err
	}
	if err := server.Wait(); err != nil {
		return fmt.Errorf("the server: %w", err)
	}
	return nil
}

func loopbackUp() error {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(socket)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, request)
}

// forward carries bytes between a pod's address outside and its network inside.
func forward(listener net.Listener, to string) {
	for {
		outer, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer outer.Close()
			inner, err := net.Dial("tcp", to)
			if err != nil {
				return
			}
			defer inner.Close()
			back := make(chan struct{})
			go func() {
				_, _ = io.Copy(outer, inner)
				_ = outer.(*net.TCPConn).CloseWrite()
				close(back)
			}()
			_, _ = io.Copy(inner, outer)
			_ = inner.(*net.TCPConn).CloseWrite()
			<-back
		}()
	}
}

// ownNetwork says how a child gets a network of its own: as root, or as root of a namespace of users.
func ownNetwork() *syscall.SysProcAttr {
	if os.Geteuid() == 0 {
		return &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	}
	return &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
}
