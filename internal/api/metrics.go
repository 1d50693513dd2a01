package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"sluis/internal/auth"
	"sluis/internal/control"
	"sluis/internal/text"
)

// Media types of numbers.
const (
	mediaMetrics     = "text/plain"
	mediaOpenMetrics = "application/openmetrics-text"
)

type metricsInput struct {
	Accept string `header:"Accept" hidden:"true"`
}

// metricsOperation gives out numbers to whoever may look.
func (a *API) metricsOperation(read func(context.Context, string) (string, []byte, error)) {
	o := bytesOf(operation(http.MethodGet, "/metrics", "get-metrics", tagOperate, "Read the numbers of this moment, for monitoring"), mediaMetrics)
	o.Responses["200"].Content[mediaOpenMetrics] = &huma.MediaType{Schema: &huma.Schema{Type: "string"}}
	o.Description = "The text form of Prometheus, or OpenMetrics where Accept asks for it. It stands at /metrics, too, where Prometheus looks by itself. " +
		"A few readers may come at once; one too many is told to come again (503)."
	handle(a, o, func(ctx context.Context, c control.Caller, in *metricsInput) (*raw, error) {
		if err := c.May(auth.Action{Kind: auth.View}); err != nil {
			return nil, err
		}
		if read == nil {
			return nil, &control.Fault{Kind: control.Unavailable, Message: text.M("nobody counts here")}
		}
		contentType, body, err := read(ctx, in.Accept)
		if err != nil {
			return nil, err
		}
		return &raw{ContentType: contentType, Body: body}, nil
	})
}
