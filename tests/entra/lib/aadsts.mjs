// Refusals in the shape of Entra's token endpoint.

import { randomUUID } from 'node:crypto';

/** A refusal: HTTP status, OAuth error name, AADSTS number and text. */
export class Aadsts extends Error {
  constructor(status, error, number, text) {
    super(text);
    this.status = status;
    this.error = error;
    this.number = number;
  }

  body(correlation) {
    return aadstsBody(this.error, this.number, this.message, correlation);
  }
}

/** The JSON body Entra answers with. */
export function aadstsBody(error, number, text, correlation = randomUUID()) {
  const trace = randomUUID();
  const timestamp = new Date().toISOString().replace('T', ' ').replace(/\.\d+Z$/, 'Z');
  return {
    error,
    error_description:
      `AADSTS${number}: ${text} Trace ID: ${trace} Correlation ID: ${correlation} Timestamp: ${timestamp}`,
    error_codes: [number],
    timestamp,
    trace_id: trace,
    correlation_id: correlation,
    error_uri: `https://login.microsoftonline.com/error?code=${number}`,
  };
}
