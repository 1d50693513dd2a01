package api

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/yaml"

	"sluis/internal/auth"
	"sluis/internal/config"
	"sluis/internal/control"
)

// describeOperations are the API's and the document's own descriptions.
func (a *API) describeOperations() {
	handle(a, bytesOf(operation(http.MethodGet, "/healthz", "get-health", tagDescribe, "Say that the API answers; needs no login"), "text/plain"),
		func(context.Context, control.Caller, *nothing) (*raw, error) {
			return &raw{ContentType: "text/plain; charset=utf-8", Body: []byte("ok\n")}, nil
		})
	a.describe("/openapi.json", "get-openapi-json", "Describe the API (OpenAPI 3.1)", "application/openapi+json", func() []byte { return a.describeJSON() })
	a.describe("/openapi.yaml", "get-openapi-yaml", "Describe the API (OpenAPI 3.1) in YAML", "application/openapi+yaml", func() []byte { return a.describeYAML() })
	a.describe("/schema", "get-schema", "Describe the document (JSON Schema 2020-12)", "application/schema+json", config.JSONSchema)
	handle(a, operation(http.MethodGet, "/fields", "list-fields", tagDescribe, "List every field of the document with its help, default and limits"),
		func(_ context.Context, c control.Caller, _ *nothing) (*value[List[config.Field]], error) {
			return listOf(config.Fields(), "", c.May(auth.Action{Kind: auth.View}))
		})
}

// describe registers an operation that answers with bytes that never change.
func (a *API) describe(path, id, summary, media string, data func() []byte) {
	handle(a, bytesOf(operation(http.MethodGet, path, id, tagDescribe, summary), media),
		func(_ context.Context, c control.Caller, _ *nothing) (*raw, error) {
			if err := c.May(auth.Action{Kind: auth.View}); err != nil {
				return nil, err
			}
			return &raw{ContentType: media, Body: data()}, nil
		})
}

func bytesOf(o huma.Operation, media string) huma.Operation {
	o.Responses = map[string]*huma.Response{"200": {Content: map[string]*huma.MediaType{media: {Schema: &huma.Schema{Type: "string"}}}}}
	return o
}

// openAPI is the whole description: what huma knows of the operations, and the
// document's object types from the model's own description.
func (a *API) openAPI() []byte {
	data, err := json.Marshal(a.huma.OpenAPI())
	if err != nil {
		panic("BUG: the description can't be written: " + err.Error())
	}
	var whole struct {
		Components map[string]map[string]any            `json:"components"`
		Paths      map[string]map[string]map[string]any `json:"paths"`
	}
	var rest map[string]any
	if json.Unmarshal(data, &whole) != nil || json.Unmarshal(data, &rest) != nil {
		panic("BUG: the description can't be read again")
	}
	schemas := whole.Components["schemas"]
	delete(schemas, "ErrorModel") // huma's own, which is never sent
	delete(schemas, "ErrorDetail")
	schemas["Value"] = map[string]any{"description": "What the document has at that place: see /schema."}
	for name, schema := range config.SchemaDefinitions(schemaPrefix) {
		if schemas[name] != nil {
			panic("BUG: two schemas are named " + name)
		}
		schemas[name] = schema
	}
	for _, open := range []map[string]any{whole.Paths["/healthz"]["get"], whole.Paths["/login"]["post"], whole.Paths["/login/handover"]["post"]} {
		open["security"] = []any{} // needs no login
	}
	rest["components"], rest["paths"] = whole.Components, whole.Paths
	if data, err = json.Marshal(rest); err != nil {
		panic("BUG: the description can't be written again: " + err.Error())
	}
	return data
}

// yamlOf is JSON as YAML.
func yamlOf(data []byte) []byte {
	var out bytes.Buffer
	if err := yaml.Convert(&out, bytes.NewReader(data)); err != nil {
		panic("BUG: the description has no YAML form: " + err.Error())
	}
	return out.Bytes()
}
