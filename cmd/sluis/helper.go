package main

import (
	"github.com/spf13/cobra"

	"sluis/internal/helper"
)

func (s *session) helperCommand() *cobra.Command {
	var socket string
	var uid int
	cmd := &cobra.Command{
		Use: "helper", Short: "Start the root helper, which does what needs root for the service", Hidden: true,
		Args: exactly(0, "no arguments"),
	}
	cmd.Flags().StringVar(&socket, "listen", helperSocket, "`path` of its socket, unless systemd hands one over")
	cmd.Flags().IntVar(&uid, "uid", 0, "user `ID` of the service, the only one besides root that may ask")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		log, err := s.logger("info", &clock{})
		if err != nil {
			return err
		}
		l, err := helper.Listener(socket, s.getenv)
		if err != nil {
			return err
		}
		return helper.Serve(cmd.Context(), l, helper.Local(version), helper.Options{
			AllowUID: uid,
			Audit: func(r helper.Record) {
				log.Info("helper call", "verb", r.Verb, "arguments", r.Args, "uid", r.Peer.UID, "pid", r.Peer.PID, "code", r.Code, "message", r.Message.String(), "took", r.Duration)
			},
		})
	}
	return cmd
}
