"use strict";

const place = document.getElementById("swagger-ui");

SwaggerUIBundle({
  domNode: place,
  url: new URL(place.dataset.openapi, document.baseURI).href,
  // The default sends the document to validator.swagger.io; nothing of ours leaves this host.
  validatorUrl: null,
  deepLinking: true,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
  tryItOutEnabled: true,
  // A key typed here is forgotten with the page.
  persistAuthorization: false,
});
