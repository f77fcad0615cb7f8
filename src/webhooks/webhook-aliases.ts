import type { NextFunction, Request, Response } from 'express';

const DELIVERIES = /^\/api\/webhooks\/endpoints\/deliveries(?=$|[/?])/;
const DELIVERY_OF_ENDPOINT = /^\/api\/webhooks\/endpoints\/[^/?]+\/deliveries\/(?=[^/?])/;
const DELIVERY_AS_ENDPOINT = /^\/api\/webhooks\/endpoints\/(?=dlv_[^/?]*\/redeliver(?:$|\?))/;

/** Deliveries live under /api/webhooks/deliveries; whoever looks for them below the endpoints finds the same ones. */
export function webhookAliases(request: Request, _response: Response, next: NextFunction): void {
  request.url = request.url
    .replace(DELIVERIES, '/api/webhooks/deliveries')
    .replace(DELIVERY_OF_ENDPOINT, '/api/webhooks/deliveries/')
    .replace(DELIVERY_AS_ENDPOINT, '/api/webhooks/deliveries/');
  next();
}
