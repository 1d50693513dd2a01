package main

import (
	"context"
	"os"

	"sluis/internal/control"
	"sluis/internal/helper"
)

// helperSocket is where the root helper listens unless it is told otherwise.
const helperSocket = "/run/sluis/helper.sock"

// privileged are the verbs that need root: done in this process where it is root,
// by the root helper else. What a subsystem needs of them it gets as funcs.
func privileged(socket string) helper.Verbs {
	if os.Geteuid() == 0 {
		return helper.Local(version)
	}
	if socket == "" {
		socket = helperSocket
	}
	return helper.Dial(socket)
}

// rootOf tells the status who does what needs root.
func rootOf(verbs helper.Verbs) func(context.Context) control.Root {
	return func(ctx context.Context) control.Root {
		identity, err := verbs.Identify(ctx)
		switch {
		case err != nil:
			return control.Root{By: control.RootNobody}
		case identity.PID == os.Getpid():
			return control.Root{By: control.RootProcess, Version: identity.Version}
		default:
			return control.Root{By: control.RootHelper, Version: identity.Version}
		}
	}
}
